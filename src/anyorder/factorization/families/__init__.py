"""The families: one file each; a member joins by being defined here."""
