from hypothesis import settings

settings.register_profile("core", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("core")
