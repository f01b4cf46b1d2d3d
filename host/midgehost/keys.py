"""Keys that sign updates: made, rotated and kept encrypted on this computer."""
