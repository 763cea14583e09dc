"""Trials of reliability: damage, kills, full disks, two at once."""
