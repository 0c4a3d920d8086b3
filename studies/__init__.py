"""Studies: questions about growth that an experiment of minutes can answer. Each writes its table and picture into docs/."""
