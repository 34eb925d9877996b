"""Keys, units, clock, configuration and errors: what every other room stands on."""
