"""What is run by hand, by make and by CI; nothing of it is installed."""
