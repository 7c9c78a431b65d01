"""Object stores: one protocol, three stores, wrappers that stack over them."""
