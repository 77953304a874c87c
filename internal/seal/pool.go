package seal

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckPool checks what WithPoolConfig left behind, so that nothing panics or fails later.
func CheckPool(p *pgxpool.Config) error {
	switch {
	case p.ConnConfig == nil:
		return errors.New("ConnConfig was set to nil: change its fields")
	case !isParsed(p), !isParsed(p.ConnConfig), !isParsed(&p.ConnConfig.Config):
		return errors.New("the configuration was replaced by one that ParseConfig did not make: change its fields")
	case p.MaxConns < 1:
		return fmt.Errorf("MaxConns is %d and must be 1 or more", p.MaxConns)
	case p.MinConns < 0 || p.MinIdleConns < 0:
		return fmt.Errorf("MinConns is %d and MinIdleConns is %d: both must be 0 or more", p.MinConns, p.MinIdleConns)
	case p.HealthCheckPeriod <= 0:
		return fmt.Errorf("HealthCheckPeriod is %v and must be over 0", p.HealthCheckPeriod)
	}
	life, jitter := p.MaxConnLifetime, p.MaxConnLifetimeJitter
	switch {
	case life <= 0:
		return fmt.Errorf("MaxConnLifetime is %v and must be over 0 and under %v, after which DSQL closes a connection", life, SessionLimit)
	case jitter < 0:
		return fmt.Errorf("MaxConnLifetimeJitter is %v and must be 0 or more", jitter)
	case life >= SessionLimit || jitter >= SessionLimit-life:
		return fmt.Errorf("MaxConnLifetime %v and MaxConnLifetimeJitter %v, which pgx adds to it, must stay under the %v after which DSQL closes a connection", life, jitter, SessionLimit)
	}
	return nil
}

// isParsed reports whether config bears the mark that pgx panics without.
func isParsed(config any) bool {
	mark := reflect.ValueOf(config).Elem().FieldByName("createdByParseConfig")
	return !mark.IsValid() || mark.Bool()
}

// IsNil reports whether v is nil or an interface around a nil pointer.
func IsNil(v any) bool {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Interface, reflect.Chan, reflect.Slice:
		return r.IsNil()
	}
	return false
}
