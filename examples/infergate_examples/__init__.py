"""Two small models whose weights come inside ordinary packages: nothing is downloaded at run time."""
