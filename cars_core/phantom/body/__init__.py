"""The healthy patient: who it is, and what tissue lies in the way of each ray."""
