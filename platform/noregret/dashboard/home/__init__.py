"""The admin's first page: what needs a person, a card an endpoint, and the platform's health."""
