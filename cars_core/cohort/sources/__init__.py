"""Where films and labels come from: one file a public set or kind of folder, over one tree of files."""
