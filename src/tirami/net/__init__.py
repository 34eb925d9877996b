"""The mesh: how nodes reach each other and come to hold the same records."""
