"""From a source of films (NIH ChestX-ray14, the phantom) to cohort rows and normalised pixels."""
