"""Report, figures and tables."""
