"""What each finding changes in the chest, and findings laid over films of any origin."""
