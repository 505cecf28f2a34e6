"""Requests that leave this service: whom they may reach, how long they may take, how much they may
bring. No model and no table enters this package.
"""
