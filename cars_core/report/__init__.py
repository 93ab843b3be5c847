"""What a build shows people: its page, its pictures, its Prefect artifacts."""
