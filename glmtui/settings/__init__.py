"""What a person can choose: one schema, its values, its file."""
