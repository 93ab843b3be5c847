"""Reports in, finding vectors out: a labeller of words and rules."""
