"""This project as a contestant: its app, its publishing program, how its service is started."""
