"""Search for settings: what is tried, by whom proposed, how far it is followed, and what is found."""
