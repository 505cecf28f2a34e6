"""`python -m noregret.web`: a web process with both planes, or several."""

from serving.web.server import main

if __name__ == "__main__":
    main("noregret.wsgi:front", "noregret.web")
