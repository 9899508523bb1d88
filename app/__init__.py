"""The web app: a service that knows the library, and a page that knows the service."""
