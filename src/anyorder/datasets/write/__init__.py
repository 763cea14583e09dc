"""Writing a LeRobot dataset: recording an expert, committing episodes, converting older versions."""
