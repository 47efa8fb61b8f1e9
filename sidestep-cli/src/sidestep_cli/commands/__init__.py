"""The commands of sidestep, a module each; imported when they are run or asked for help."""
