"""Reading a LeRobot dataset: chunks, episodes, pictures, mixtures, statistics."""
