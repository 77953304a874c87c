package dsql

import "time"

// ApplicationName is the default of application_name.
const ApplicationName = "dsql-go/" + version

// SetRetirement sets the time in which connections to a peer are retired. Call it before c is used.
func (c *Connector) SetRetirement(d time.Duration) { c.rest.Retirement = d }
