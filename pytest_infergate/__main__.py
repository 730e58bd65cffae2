from pytest_infergate.cli.main import main

main()
