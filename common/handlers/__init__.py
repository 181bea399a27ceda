"""What a handler is, shared by the child that runs it for a worker and by those who run it in their own process."""
