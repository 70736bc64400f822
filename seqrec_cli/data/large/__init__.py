"""Preprocessing of logs larger than memory."""
