"""Studies: grids of pipeline runs over seeds that end in a table and plots; each is a file in studies/."""
