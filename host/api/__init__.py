"""The REST service: what ``chamnet serve`` runs. ``app.py`` joins the routers; nothing here measures or trains."""
