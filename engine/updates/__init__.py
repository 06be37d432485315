"""Changes to an index that is being searched. docs/updates.md has the design."""
