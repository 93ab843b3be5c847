"""The lake: versioned Delta tables, content-addressed objects, pages, over one storage setting."""
