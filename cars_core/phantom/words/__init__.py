"""The report a radiologist would write of a simulated film."""
