"""Django's engine for PostgreSQL, with waits that end."""
