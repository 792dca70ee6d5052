"""What is made of rows: tables, BD-rates, exports."""
