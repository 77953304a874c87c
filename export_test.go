package dsql

// ApplicationName is the default of application_name.
const ApplicationName = "dsql-go/" + version
