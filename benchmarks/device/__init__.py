"""What a kitchen of large models takes on a device: opening, mixing, passes at each precision, a search, and memory."""
