"""Hours of a dashboard in three browsers, whose server is killed every so often: nothing breaks, grows or is lost."""
