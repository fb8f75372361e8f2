"""The strategies of a comparison."""
