"""The values that travel: frozen, legal by construction, one line of meaning under every field."""
