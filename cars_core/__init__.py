"""The factory as a pure library: no scheduler, no environment variables, no printing."""
