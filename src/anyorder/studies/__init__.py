"""Studies: grids of small trainings, from their plan to the table that laws are fitted to."""
