package postgres

func useNSSWrapper(string) {}

func installedNSSWrapper() string { return "" }
