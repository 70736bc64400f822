"""What a model of the next event says of the events after it, step by step from its own answers."""
