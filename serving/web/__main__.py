"""`python -m serving.web`: a web process with the data plane alone, or several."""

from serving.web.server import main

if __name__ == "__main__":
    main("serving.wsgi:front", "serving.web")
