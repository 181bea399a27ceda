"""The dashboard: pages that read without JavaScript, and become live with it."""

from dispatcher.dashboard.pages import blueprint

__all__ = ["blueprint"]
