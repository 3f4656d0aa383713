"""What operators watch: logs."""
