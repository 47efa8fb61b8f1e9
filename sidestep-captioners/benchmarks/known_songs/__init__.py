"""Songs whose tempo, metre and key are known because they are composed here, for measuring and testing analysers."""
