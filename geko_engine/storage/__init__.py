"""Files written whole or not at all, and room on the disk."""
