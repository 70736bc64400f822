"""Which past events mattered for a score: by attention, by leaving events out, or by integrated gradients."""
