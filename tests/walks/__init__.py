"""New users, as they come: what they type, and what they see."""
